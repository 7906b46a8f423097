"""The partition of a data set into clients, and the test rows that are held out before."""
