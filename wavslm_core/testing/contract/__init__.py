"""The contract of each role as classes of tests; `wavslm_core.testing.contract_tests` picks one."""
