"""Steps of streams compiled by torch, ahead of time, for the machine that they run on."""
