"""Tasks of the reasoning-gym package."""
