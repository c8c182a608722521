"""What images look like: pretrained generators."""
