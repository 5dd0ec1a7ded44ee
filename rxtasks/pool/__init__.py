"""The worker pool: which workers there are and what each holds (pure), and the Subject that shows it."""
