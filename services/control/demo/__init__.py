"""`signalbox demo`: a day of generated tickets through all services in fast-forward, and the story of three of them."""
