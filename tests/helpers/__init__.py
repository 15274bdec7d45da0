"""What several tests use."""

from helpers import typecheck as typecheck  # by its name alone, as the import hook asks for it
