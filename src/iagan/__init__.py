"""Recover images from degraded measurements with pretrained generative models."""
