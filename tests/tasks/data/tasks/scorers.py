"""What own_scorer.yaml names by `!function`."""


def only_short(dataset):
    return dataset.filter(lambda document: len(document["answer"]) < 5)


def ask(document):
    return document["question"] + " "


def compare(document, results):
    answer = results[0]
    if answer == "crash":
        raise ValueError("the scorer [b]failed[/b]\non two lines")
    gold = document["answer"]
    return {
        "same_letters": sorted(answer.strip(":")) == sorted(gold),
        "longest": (len(answer), {"gold": gold}),
        "middle": float(len(answer)),
    }


def longest(items):
    assert all(isinstance(item, tuple) for item in items)
    return max(length for length, _ in items)
