"""The contract of backbones, over both inputs."""

from wavslm_core.testing import contract_tests
from wavslm_x_transformers.config import XTransformerConfig

TestFeatures = contract_tests(
    XTransformerConfig(
        num_layers=2, dim=24, num_heads=6, window_tokens=14, chunk_tokens=4, input_dim=16, vocab_size=50
    )
)
TestEmbedding = contract_tests(
    XTransformerConfig(
        num_layers=2, dim=24, num_heads=2, window_tokens=6, chunk_tokens=1, input="embedding", input_dim=16,
        vocab_size=50,
    )
)  # fmt: skip
TestOneHead = contract_tests(
    XTransformerConfig(
        num_layers=1, dim=16, num_heads=1, kv_heads=1, dropout=0.3, window_tokens=8, chunk_tokens=8,
        input_dim=10, vocab_size=50,
    )
)  # fmt: skip
