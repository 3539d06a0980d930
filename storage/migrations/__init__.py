"""Alembic's folder: the steps from an empty database to this version's tables, the same for both databases.

There are no steps back: they would drop what people said. The way back is a backup.
"""
