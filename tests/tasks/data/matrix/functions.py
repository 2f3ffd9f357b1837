"""What the tasks of this folder name by `!function`."""

from lm_eval.api.task import ConfigurableTask


def only_short(dataset):
    return dataset.filter(lambda document: len(document["answer"]) < 5)


def every_second(dataset):
    return dataset.select(range(0, len(dataset), 2))


def alphabet(length, verb="srt", **_):
    import datasets

    words = ["abcdefgh"[start : start + length] for start in range(5)]
    rows = [{"question": f"{verb} {word}", "answer": word[::-1]} for word in words]
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows) for split in ("train", "test")}
    )


def backwards(dataset):
    return dataset.map(lambda document: {"answer": document["answer"][::-1]})


def first_letter(document):
    return 0 if document["answer"][0] == "a" else 1


def ask(document):
    return document["question"] + " "


def compare(document, results):
    answer = results[0]
    gold = document["answer"]
    return {
        "same_letters": sorted(answer.strip(":")) == sorted(gold),
        "longest": (len(answer), {"gold": gold}),
        "middle": float(len(answer)),
    }


def longest(items):
    return max(length for length, _ in items)


def letters_only(responses, documents):
    assert len(responses) == len(documents)
    return [["".join(filter(str.isalpha, text)) for text in texts] for texts in responses]


class Overlap(ConfigurableTask):
    """Says which share of the right letters stands in its place."""

    VERSION = 3

    def __init__(self, config=None):
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def process_results(self, doc, results):
        pairs = list(zip(":" + doc["answer"], results[0], strict=False))
        right = sum(gold == said for gold, said in pairs)
        return {"overlap": right / (1 + len(doc["answer"])), "length": len(results[0])}

    def aggregation(self):
        from lm_eval.api.metrics import mean

        return {"overlap": mean, "length": max}

    def higher_is_better(self):
        return {"overlap": True, "length": True}
