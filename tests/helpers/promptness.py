"""How soon is soon, for tests of what must not wait for a timeout of minutes, or for ever."""

PROMPT = 20.0  # Seconds, on a machine that is busy with other tests: Python alone takes some of them to start.
