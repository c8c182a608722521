"""Damaged files of every kind that iagan reads, and extreme observations: `make fuzz`.

Each trial is determined by the seed and its number. A reader may read what it is given or refuse it
with an `IaganError` of one line; anything else, five seconds, or 1 GiB of memory is a failure.
"""
