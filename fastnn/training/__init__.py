"""Training: the loop over epochs, and what it leaves behind."""
