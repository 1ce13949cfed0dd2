"""How hypothesis searches, for every test here."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Examples differ much in cost (models, tokenizers), and machines in speed: time decides nothing. In CI the same
# examples are tried every time, so that a failure there is a change of the code.
settings.register_profile("longwatch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("longwatch"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "longwatch")
