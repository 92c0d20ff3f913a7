"""Training runs on disk: finding and comparing them, starting and stopping them as processes, and drawing them."""
