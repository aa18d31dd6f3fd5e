"""The history of the database's schema, as Alembic revisions."""

HEAD = "0006"
"""The revision that this program works with; a test holds it against the newest file."""
