"""A trained model outside of the training loop."""
