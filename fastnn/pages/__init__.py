"""Pages that run in a browser: their scripts, and the page of a trained network."""
