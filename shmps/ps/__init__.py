"""The parameter server: servers, workers and the scheduler, and what they say to each other."""
