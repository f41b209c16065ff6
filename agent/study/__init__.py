"""Studies: many searches, recorded, compared and drawn."""
