"""The demonstrations of ``skdejavid demo``, written as a user would with the public names."""
