"""False-alarm rate and sharpness of the noise rule, measured on random graphs.

``python -m benchmarks.verification_noise --graphs 300`` prints the figures of docs/verification.md.
"""
