"""The worker services. None imports another; `control` composes them."""
