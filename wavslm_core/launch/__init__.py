"""Where a recipe runs: launchers behind one interface, and the run folder that they share."""
