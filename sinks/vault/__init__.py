"""The vault: records, sealed, until the law lets them go."""
