"""The trials of a sweep: in turn, several at once, or as arrays of jobs; pruned, resumed, ranked."""
