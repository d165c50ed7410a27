"""ML-1M without ratings, leave-one-out, to compare with published tables of GRU4Rec and the like.

  python -m launch.train --config=configs/ml1m_sequences.py --workdir=runs/ml1m

Needs ml-1m-sequences under $NEGFLAX_DATA_DIR. Uses 2,048 shared samples with logQ correction and a
hidden width of 128. Takes 80 CPU seconds of training on one thread; HR@10 .272, NDCG@10 .153 with
seen items masked; Markov over five items has .251, .146, and EASE .107, .054.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config."""
    config = negflax_config.defaults()
    config.name = "ml1m_sequences"
    config.data.source = "ml1m_sequences"
    config.data.split = "leave_one_out"
    config.data.min_item_events = 5
    config.labels.positive = ("interaction",)
    config.labels.negative = ()
    config.batch.rows = 16
    config.batch.length = 200
    config.model.hidden = 128
    config.model.embedding = 128
    config.model.features = ()
    config.model.precision = "auto"
    config.loss.objective = "ssm"
    config.loss.candidates = "uniform"
    config.loss.num_candidates = 2048
    config.optimizer.tables = "adagrad"
    config.optimizer.learning_rate = 5e-3
    config.optimizer.table_learning_rate = 0.1
    config.optimizer.final_fraction = 0.01
    config.train.epochs = 2.2
    config.train.eval_every = 0
    config.train.checkpoint_every = 1000
    config.eval.history = 200
    config.eval.ks = (10,)
    return config
