"""One thread per worker, no network, and the hypothesis profile; set before any test imports torch."""

import os

for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TERM": os.environ.get("TERM", "dumb"),
}.items():
    os.environ[_name] = _value

from hypothesis import HealthCheck, settings

# Two workers share two busy cores: a deadline would measure the machine, not the code.
settings.register_profile(
    "stepwell", deadline=None, max_examples=100, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("stepwell")
