"""The record that training leaves beside the weights of a model, ``training.json``: what it was trained on and for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LONGEST = 1 << 24  # bytes of a record; it holds every loss that was logged


def read_record(folder: Path) -> dict[str, Any]:
    """What ``training.json`` of a folder says; nothing where there is none or it cannot be read."""
    file = folder / "training.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8")) if file.stat().st_size <= _LONGEST else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def trained_for(folder: Path) -> str | None:
    """The name of the environment that a model was trained for, as far as its record says."""
    environment = _mapping(read_record(folder).get("recipe")).get("environment")
    name = _mapping(environment).get("name", environment)
    return name if isinstance(name, str) else None


def about(folder: Path) -> str:
    """Environment, size, training and quality in a line."""
    record = read_record(folder)
    recipe, report = _mapping(record.get("recipe")), _mapping(record.get("report"))
    parts = []
    if isinstance(count := record.get("parameters"), int):
        parts += [f"{count / 1e6:.2f} M parameters" if count >= 1e4 else f"a head of {count:,} parameters"]
    tokens = record.get("tokens_seen", record.get("tokens"))  # in all, or of the last run where only that is known
    parts += [f"{tokens / 1e6:.1f} M training tokens"] if isinstance(tokens, int) else []
    policy = record.get("policy", recipe.get("policy"))  # of recorded samples the recipe names the file
    parts += [f"on samples of {_mapping(policy).get('name', policy)}"] if policy else []
    numbers = {key: report.get(key) for key in ("auroc", "ece")}
    parts += [f"{key.upper()} {value:.3f}" for key, value in numbers.items() if isinstance(value, int | float)]
    return ", ".join(parts) or "no training record"


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
