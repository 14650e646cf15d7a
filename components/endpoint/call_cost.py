"""What a call of the model takes, learned from the calls there were: seconds = base + slope * observations."""

_KEPT = 0.97  # weight that a call keeps with each later one: about the last 30 count


class CallCost:
    """A line fitted to recent calls by weighted least squares."""

    def __init__(self) -> None:
        self._weight = self._n = self._nn = self._s = self._ns = 0.0

    def saw(self, observations: int, seconds: float) -> None:
        """One call that was measured."""
        self._weight = self._weight * _KEPT + 1
        self._n = self._n * _KEPT + observations
        self._nn = self._nn * _KEPT + observations * observations
        self._s = self._s * _KEPT + seconds
        self._ns = self._ns * _KEPT + observations * seconds

    def seconds(self, observations: int) -> float:
        """Expected time of a call; 0 before the first. Flat in the observations while only one size was seen."""
        if not self._weight:
            return 0.0
        mean_n, mean_s = self._n / self._weight, self._s / self._weight
        variance = self._nn / self._weight - mean_n**2
        slope = max(0.0, (self._ns / self._weight - mean_n * mean_s) / variance) if variance > 1e-6 else 0.0
        return max(0.0, mean_s + slope * (observations - mean_n))
