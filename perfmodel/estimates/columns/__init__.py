"""The columns of an estimate: what is estimated (`groups`), and of which deployment (`deployment_columns`)."""
