"""The moving line at a terminal that shows how far some work is."""

from rich.progress import Progress


class ProgressBar(Progress):
    """rich's own, of which versions before 14 end one that is disabled with an empty line."""

    def stop(self) -> None:
        """Ends it; of one that is disabled nothing was ever shown."""
        if not self.disable:
            super().stop()
