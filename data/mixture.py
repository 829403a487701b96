#!/usr/bin/env python3
"""Make the text from which data/mini.bin learned English: python3 data/mixture.py CORPORA FOLDER

CORPORA holds the collections, one file each, NAME.txt, with a line <|endoftext|> between documents.
FOLDER receives a vocabulary (tokenizer.bin), the mixture (mix_train.bin, mix_val.bin) and, for each
collection, its held-out documents (NAME_val.bin), on which bits a byte are measured.
Run it in the folder of ./tokenizer and ./prepare. It needs numpy; training itself needs no Python.
"""
import glob, os, random, subprocess, sys
import numpy as np

SEPARATOR = '<|endoftext|>\n'
HELD_OUT = 25                     # one document in so many, but at least three
LONGEST = 1800                    # characters: about 512 tokens, the context
# How often a collection is read in one pass over the mixture (others: once), and which are cut short.
REPEATED = {'hotel_and_restaurant_answers': 3, 'hotel_and_restaurant_reviews': 3, 'shop_complaints': 2,
            'retail_and_airline_agent': 2, 'tiny_stories': 2, 'more_tiny_stories': 2}
SHORTENED = {'childrens_books': 3}                                    # only a third of it is used


def conversations(document):
    """Cut a long conversation where the user speaks, so that each part fits into the context."""
    if len(document) <= LONGEST or not document.startswith('User:'):
        return [document]
    parts, part = [], ''
    for turn in document.replace('\nUser:', '\n\0User:').split('\0'):
        if part and len(part) + len(turn) > LONGEST:
            parts.append(part.strip())
            part = ''
        part += turn
    return parts + [part.strip()] * bool(part.strip())


def ids(path):
    return np.fromfile(path, dtype='<u2')[512:]                       # behind the header


def write(path, tokens):
    header = np.zeros(256, '<i4')
    header[:3] = 20240520, 1, len(tokens)
    with open(path, 'wb') as f:
        f.write(header.tobytes() + tokens.astype('<u2').tobytes())


def main(corpora, folder):
    os.makedirs(folder, exist_ok=True)
    random.seed(1)
    names = sorted(os.path.basename(p)[:-4] for p in glob.glob(f'{corpora}/*.txt'))
    for name in names:
        text = open(f'{corpora}/{name}.txt', encoding='utf-8').read()
        documents = [d.strip() for d in text.split(SEPARATOR) if d.strip()]
        random.shuffle(documents)
        held = max(3, len(documents) // HELD_OUT)
        train = documents[held:]
        train = train[:len(train) // SHORTENED.get(name, 1)]
        for part, chosen in ('train', train), ('held', documents[:held]):
            with open(f'{folder}/{name}.{part}.txt', 'w', encoding='utf-8') as f:
                f.write(SEPARATOR.join(x + '\n' for d in chosen for x in conversations(d)))
    texts = [f'{folder}/{name}.train.txt' for name in names]
    vocabulary = f'{folder}/tokenizer.bin'
    subprocess.run(['./tokenizer', 'train', *texts, '--vocab', '4096', '--out', vocabulary], check=True)
    for name in names:
        for part in 'train', 'held':
            subprocess.run(['./prepare', 'text', f'{folder}/{name}.{part}.txt', '--val', '0', '--out',
                            f'{folder}/{name}_{part}', '--tokenizer', vocabulary], check=True)
        os.replace(f'{folder}/{name}_held_train.bin', f'{folder}/{name}_val.bin')
    train, held = [], []
    for name in names:
        tokens = ids(f'{folder}/{name}_train_train.bin')
        pieces = np.array_split(tokens, max(1, len(tokens) // 65536))
        train += pieces * REPEATED.get(name, 1)
        held.append(ids(f'{folder}/{name}_val.bin')[:16 * 512])
    order = np.random.default_rng(0).permutation(len(train))
    write(f'{folder}/mix_train.bin', np.concatenate([train[i] for i in order]))
    write(f'{folder}/mix_val.bin', np.concatenate(held))


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
