"""The history of the database's schema, as Alembic revisions."""

HEAD = "0007"
"""The revision that this program works with; a test holds it against the newest file."""
