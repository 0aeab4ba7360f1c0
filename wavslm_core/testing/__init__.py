"""For the tests of wavslm and of plugins: small real parts that need no plugin."""
