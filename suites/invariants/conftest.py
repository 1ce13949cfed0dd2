"""How hypothesis searches, for every test here."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Examples differ much in cost (models, tokenizers), and machines in speed: time decides nothing. The same examples are
# tried every time, so that a failure is a change of the code; LONGWATCH_SEARCH=1 looks for new ones.
settings.register_profile("longwatch", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", settings.get_profile("longwatch"), derandomize=False)
settings.load_profile("search" if os.environ.get("LONGWATCH_SEARCH") else "longwatch")
