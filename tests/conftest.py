"""Settings of the whole test run."""

from __future__ import annotations

import os

import torch
from hypothesis import HealthCheck, settings

# Examples are compiled and captured: single ones may take long on a loaded machine.
settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "nightly", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# What one run compiled must not pass in the next one.
os.environ["GRAPHOPT_CACHE"] = "off"

# Tests run in several processes, one a core.
torch.set_num_threads(1)
