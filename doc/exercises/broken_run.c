/* About: session 7, 45 minutes: three broken runs, and which function is to blame
 * Contract: A model was tuned four times with the same settings and data: once with the programs
 *   as they are, then three times with one line of one function changed. Below are their records of
 *   loss in training, loss on held-out data, learning rate (times 1e5) and norm of the gradient.
 *   Return the name of the function that was changed in run 1, 2, 3. It is one of these: "adamw",
 *   "embedding_forward", "gelu_backward", "gradient_norm", "layernorm_backward", "loader_pack",
 *   "model_update", "sample", "schedule", "scores_mask", "softmax_loss".
 *
 *           as it is             run 1                run 2                run 3
 *     step  loss held  lr norm   loss held  lr norm   loss held  lr norm   loss held  lr norm
 *        0       3.94   0  0.0        4.39   0  0.0        3.94   0  0.0        3.94   0  0.0
 *        5  4.38       25  4.3   4.62       25  4.8   4.39       25  9.8   4.38       25  4.3
 *       10  3.50       50  3.2   3.78       50  4.3   3.67       50 15.1   3.50       50  3.2
 *       20  3.70 3.77 100  3.4   3.38 3.61 100  4.0   4.27 4.49 100 20.7   3.70 3.77 100  3.4
 *       40  3.72 3.87  98  2.7   2.84 2.98  98  4.7   5.62 5.87  98 31.7   3.71 3.86  90  2.7
 *       60  3.88 3.84  90  2.7   2.28 2.42  90  5.0   6.48 6.56  90 47.4   3.86 3.82  64  2.7
 *       80  2.67 3.89  78  2.6   1.10 1.72  78  5.3   6.72 7.30  78 58.0   2.72 3.80  34  2.4
 *      100  2.76 3.92  64  2.7   0.86 1.28  64  3.8   7.57 7.59  64 70.4   2.75 3.79  13  2.5
 *      120  3.06 3.93  48  2.8   0.63 0.98  48  4.3   7.34 7.47  48 79.5   2.97 3.80  12  2.6
 *      140  2.74 3.87  33  2.6   0.38 0.73  33  3.3   7.01 7.37  33 82.9   2.59 3.79  31  2.4
 *      160  2.19 3.90  21  2.6   0.30 0.61  21  2.3   6.91 7.32  21 84.9   2.71 3.87  61  2.8
 *      180  2.21 3.93  13  2.6   0.27 0.54  13  3.0   6.58 7.09  13 92.6   2.65 3.99  88  2.9
 *      200  2.10 3.95  10  2.6   0.19 0.50  10  2.3   6.28 6.86  10 103.3   2.83 4.07 100  3.2
 *
 *   ./train_gpt --model data/mini.bin --tokenizer data/mini_tokenizer.bin --data data/stories
 *   --context 64 --steps 200 --lr 1e-3 --warmup 20 --eval-every 20, after make demo-stories: break
 *   a function yourself, and compare. (Reports say 0 for a right name.)
 * Star: three names
 * Hint: Compare each run with the first one, column by column. Which column differs first, and at
 *   which step? What differs before the first update cannot come from the optimizer.
 * Hint: Run 1: the held-out loss is wrong at step 0 already, then too good to be true. Run 2: the
 *   norm grows step by step, as if gradients were added up. Run 3: only one column differs at
 *   first.
 * Hint: Run 1: what would let a token be predicted from itself? Run 2: who sets gradients to 0?
 *   Run 3: who computes the learning rate?
 * Mistake: "scores_mask" => "embedding_forward"
 * Say: Run 1: with wrong positions the loss is worse, too, but it does not fall to half a nat.
 * Mistake: "scores_mask" => "softmax_loss"
 * Say: Run 1: a wrong softmax_loss would not make good predictions out of unseen text.
 * Mistake: "adamw" => "gradient_norm"
 * Say: Run 2: a wrong norm alone would not make the loss rise: with clip = 1, all were clipped.
 * Mistake: "adamw" => "model_update"
 * Say: Run 2: model_update relies on another function to leave the gradients at 0.
 * Mistake: "schedule" => "adamw"
 * Say: Run 3: the learning rate in the record is what adamw is given; it comes from elsewhere.
 */

/* What was changed: i < before => i < 0 in scores_mask; g[i] = 0 was removed from adamw; pi => 2 pi
 * in schedule. */
const char *broken_run(int run)
{
    return run == 1 ? "scores_mask" : run == 2 ? "adamw" : "schedule";
}

/* For each run: 0 if the name is right, else which wrong one it is. */
void call(Call *c)
{
    static const char *const names[] = {"adamw", "embedding_forward", "gelu_backward",
        "gradient_norm", "layernorm_backward", "loader_pack", "model_update", "sample", "schedule",
        "scores_mask", "softmax_loss"};
    for (int run = 1; run <= 3; run++) {
        const char *name = attempt(run);
        int n = 0;
        while (name && n < 11 && strcmp(names[n], name)) n++;
        result(c, run == 1 ? "run 1" : run == 2 ? "run 2" : "run 3",
               name && !strcmp(name, broken_run(run)) ? 0 : n + 1);
    }
}
