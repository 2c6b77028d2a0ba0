# A traceback shows the script's own lines, and nothing of the runner.
def divide(a, b):
    return a / b

divide(1, 0)
