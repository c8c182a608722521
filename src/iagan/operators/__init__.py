"""What the camera does: the operators A of y = A x + e."""
