"""Training that a browser shows: the server on this computer, and its page."""
