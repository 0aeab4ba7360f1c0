from wavslm_others import NearestConfig, NoRepeatConfig

from wavslm_core.testing import contract_tests

TestNearest = contract_tests(NearestConfig(input_dim=6, codes=16))
TestNoRepeat = contract_tests(NoRepeatConfig())
