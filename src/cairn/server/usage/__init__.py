"""usage: what every request used and cost, and what may be used: limits, budgets, and the ledger under them.

A route depends on `admission.Admission`; `metering.Metering` holds the parts; `routes` show and change them.
"""
