"""Training: the loop over epochs, L-BFGS, early stopping, progress and the history of a run."""
