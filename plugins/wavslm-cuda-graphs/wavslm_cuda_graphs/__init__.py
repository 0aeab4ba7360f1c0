"""Steps of streams on GPUs, recorded once as CUDA graphs and replayed."""
