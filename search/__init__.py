"""Architecture search over a weight-sharing supernet."""
