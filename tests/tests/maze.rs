//! The maze against an independent statement of its rules (Miconi et al., ICLR 2019, section 4.2), and the levels that
//! players without learning reach in it, sampled from the task and computed exactly.

use std::collections::{BTreeMap, VecDeque};

use backpropamine::rng::{Rng, Stream};
use backpropamine::task::Task;
use backpropamine::task::maze::players::Player;
use backpropamine::task::maze::{Config, Maze, Square, Start, Variant};
use proptest::prelude::*;
use proptest::sample::select;

/// Up, down, left, right.
const MOVES: [(isize, isize); 4] = [(-1, 0), (1, 0), (0, -1), (0, 1)];

/// A map drawn as the paper describes it: true is a wall.
struct Map(Vec<Vec<bool>>);

impl Map {
    fn new(size: usize) -> Self {
        let mut inner = vec![false; size];
        (inner[0], inner[size - 1]) = (true, true);
        let mut walls = vec![inner; size];
        (walls[0], walls[size - 1]) = (vec![true; size], vec![true; size]);
        for row in (2..size - 1).step_by(2) {
            for column in (2..size - 1).step_by(2) {
                walls[row][column] = true;
            }
        }
        walls[size / 2][size / 2] = false;
        Self(walls)
    }

    fn size(&self) -> usize {
        self.0.len()
    }

    fn pillars(&self) -> usize {
        let inside = 1..self.size() - 1;
        self.0[inside.clone()]
            .iter()
            .map(|row| row[inside.clone()].iter().filter(|&&wall| wall).count())
            .sum()
    }

    /// The free squares, numbered by their place in this list.
    fn free(&self) -> Vec<(usize, usize)> {
        let squares = (0..self.size()).flat_map(|row| (0..self.size()).map(move |column| (row, column)));
        squares.filter(|&(row, column)| !self.0[row][column]).collect()
    }

    fn after(&self, (row, column): (usize, usize), action: usize) -> (usize, usize) {
        let (down, right) = MOVES[action];
        let there = (row.wrapping_add_signed(down), column.wrapping_add_signed(right));
        if self.0[there.0][there.1] { (row, column) } else { there }
    }

    /// For each free square, the squares that the four actions lead to, by number.
    fn moves(&self) -> Vec<[usize; 4]> {
        let free = self.free();
        let number = |square| free.iter().position(|&known| known == square).unwrap();
        free.iter()
            .map(|&square| [0, 1, 2, 3].map(|action| number(self.after(square, action))))
            .collect()
    }

    fn centre(&self) -> usize {
        let middle = self.size() / 2;
        self.free().iter().position(|&square| square == (middle, middle)).unwrap()
    }
}

/// The mean over all goals but the centre.
fn over_goals(map: &Map, hits: impl Fn(usize) -> f64) -> f64 {
    let squares = map.free().len();
    let goals = (0..squares).filter(|&goal| goal != map.centre());
    goals.map(hits).sum::<f64>() / (squares - 1) as f64
}

fn distances(moves: &[[usize; 4]], from: usize) -> Vec<usize> {
    let mut distance = vec![usize::MAX; moves.len()];
    distance[from] = 0;
    let mut queue = VecDeque::from([from]);
    while let Some(square) = queue.pop_front() {
        for &next in &moves[square] {
            if distance[next] == usize::MAX {
                distance[next] = distance[square] + 1;
                queue.push_back(next);
            }
        }
    }
    distance
}

/// The mean hits of one who knows the goal, by the steps left at the moment of a teleport.
fn hits_after_teleport(distance: &[usize], steps: usize) -> Vec<f64> {
    let mut hits: Vec<f64> = vec![0.0; steps + 1];
    for left in 0..=steps {
        let paths = distance.iter().filter(|&&d| d > 0 && d <= left);
        hits[left] = paths.map(|d| 1.0 + hits[left - d]).sum::<f64>() / (distance.len() - 1) as f64;
    }
    hits
}

fn exact_oracle(map: &Map, steps: usize) -> f64 {
    let moves = map.moves();
    over_goals(map, |goal| {
        let distance = distances(&moves, goal);
        1.0 + hits_after_teleport(&distance, steps)[steps - distance[map.centre()]]
    })
}

/// The order in which the searcher sees the squares is the same for every goal: the step at which it comes to each.
fn search_times(moves: &[[usize; 4]], start: usize) -> Vec<usize> {
    let mut times = vec![usize::MAX; moves.len()];
    let (mut now, mut position) = (0, start);
    times[start] = 0;
    while times.contains(&usize::MAX) {
        // First in, first out, in the order of the actions: of all nearest squares, the one whose path comes first.
        let mut queue = VecDeque::from([vec![position]]);
        let path = loop {
            let path = queue.pop_front().unwrap();
            let end = *path.last().unwrap();
            if times[end] == usize::MAX {
                break path;
            }
            queue.extend(moves[end].iter().filter(|next| !path.contains(next)).map(|&next| {
                let mut longer = path.clone();
                longer.push(next);
                longer
            }));
        };
        now += path.len() - 1;
        position = *path.last().unwrap();
        times[position] = now;
    }
    times
}

fn exact_searcher(map: &Map, steps: usize) -> f64 {
    let moves = map.moves();
    let times = search_times(&moves, map.centre());
    over_goals(map, |goal| {
        let found = times[goal];
        let later = hits_after_teleport(&distances(&moves, goal), steps);
        steps.checked_sub(found).map_or(0.0, |left| 1.0 + later[left])
    })
}

/// The probability of every square, step by step.
fn exact_random(map: &Map, steps: usize) -> f64 {
    let moves = map.moves();
    over_goals(map, |goal| {
        let mut here = vec![0.0; moves.len()];
        here[map.centre()] = 1.0;
        let mut hits = 0.0;
        for _ in 0..steps {
            let mut next = vec![0.0; moves.len()];
            for (square, p) in here.iter().enumerate() {
                moves[square].iter().for_each(|&to| next[to] += p / 4.0);
            }
            let hit = std::mem::take(&mut next[goal]);
            let share = hit / (moves.len() - 1) as f64;
            (0..next.len())
                .filter(|&square| square != goal)
                .for_each(|square| next[square] += share);
            hits += hit;
            here = next;
        }
        hits
    })
}

fn maze(config: Config) -> Maze {
    Maze::new(config).unwrap()
}

/// Mean and standard error of a player's hits over 50 000 episodes: enough to see an error of 0.2 in the searcher's.
fn sampled(player: Player, size: u32) -> (f64, f64) {
    let mut maze = maze(Config { size, ..Config::default() });
    let n = 50_000.0;
    let hits: Vec<f64> = (0..50_000).map(|seed| player.hits(&mut maze, 1_000_000 + seed).into()).collect();
    let mean = hits.iter().sum::<f64>() / n;
    let variance = hits.iter().map(|hits| (hits - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

#[test]
fn levels_are_the_stated_ones() {
    for (size, stated) in [(11, [32.4, 27.0, 0.77]), (13, [27.0, 20.0, 0.54])] {
        let map = Map::new(size);
        let exact = [exact_oracle(&map, 200), exact_searcher(&map, 200), exact_random(&map, 200)];
        let players = [Player::Oracle, Player::Searcher, Player::Random];
        // Stated to the last digit given; "about" for the searcher.
        for (((player, exact), stated), within) in players.into_iter().zip(exact).zip(stated).zip([0.05, 0.5, 0.005]) {
            let (mean, error) = sampled(player, size as u32);
            println!("size {size} {player:?}: exact {exact:.4}, sampled {mean:.3} ± {error:.3}, stated {stated}");
            assert!(
                (mean - exact).abs() < 4.0 * error,
                "size {size} {player:?}: {mean} ± {error}, exact {exact}"
            );
            assert!((exact - stated).abs() <= within, "size {size} {player:?}: {exact}, stated {stated}");
        }
    }
}

#[test]
fn the_map_has_the_stated_squares() {
    for (size, pillars, free) in [(5, 0, 9), (7, 4, 21), (11, 16, 65), (13, 24, 97), (31, 196, 645)] {
        let map = Map::new(size);
        assert_eq!((map.pillars(), map.free().len()), (pillars, free), "size {size}");
        let maze = maze(Config {
            size: size as u32,
            ..Config::default()
        });
        for (row, walls) in map.0.iter().enumerate() {
            for (column, &wall) in walls.iter().enumerate() {
                assert_eq!(maze.is_wall(row as u32, column as u32), wall, "size {size}: {row}, {column}");
            }
        }
        assert!(maze.is_wall(size as u32, 1) && maze.is_wall(1, u32::MAX), "outside");
    }
}

#[test]
fn the_picture_shows_walls_agent_and_goal() {
    let maze = maze(Config::default());
    let picture: Vec<Vec<char>> = maze.to_string().lines().map(|line| line.chars().collect()).collect();
    for (row, walls) in Map::new(11).0.iter().enumerate() {
        for (column, &wall) in walls.iter().enumerate() {
            let square = Square {
                row: row as u32,
                column: column as u32,
            };
            let expected = match square {
                square if square == maze.position() => 'A',
                square if square == maze.goal() => 'G',
                _ if wall => '#',
                _ => '.',
            };
            assert_eq!(picture[row][column], expected);
        }
    }
}

/// Asserts that counts of equally likely squares are equal within five standard deviations each.
fn assert_uniform(counts: &BTreeMap<Square, usize>, kinds: usize) {
    assert_eq!(counts.len(), kinds);
    let n = counts.values().sum::<usize>() as f64;
    let p = 1.0 / kinds as f64;
    for (square, &count) in counts {
        let deviation = (count as f64 - n * p) / (n * p * (1.0 - p)).sqrt();
        assert!(deviation.abs() < 5.0, "{square:?}: {count} of {n}");
    }
}

#[test]
fn every_free_square_is_equally_likely() {
    let mut task = maze(Config::default());
    let mut scattered = maze(Config {
        start: Start::Random,
        ..Config::default()
    });
    let [mut goals, mut random_goals, mut starts] = [const { BTreeMap::new() }; 3];
    for seed in 0..20_000 {
        let rng = Rng::new(seed).lifetime(Stream::Task, 0);
        task.reset(rng);
        scattered.reset(rng);
        *goals.entry(task.goal()).or_insert(0) += 1;
        *random_goals.entry(scattered.goal()).or_insert(0) += 1;
        *starts.entry(scattered.position()).or_insert(0) += 1;
    }
    assert_uniform(&goals, 64);
    assert_uniform(&random_goals, 65);
    assert_uniform(&starts, 65);
}

/// Any lawful options.
fn configs() -> impl Strategy<Value = Config> {
    let sizes = select(vec![5, 7, 9, 11, 13, 31]);
    let rewards = (0.1..20.0f32, 0.0..20.0f32, 0..9u32);
    (sizes, 1..120u32, rewards, any::<[bool; 3]>()).prop_map(|(size, steps, rewards, [paper, random, time_input])| Config {
        variant: if paper { Variant::Paper } else { Variant::Code },
        size,
        steps,
        reward: rewards.0,
        wall_penalty: rewards.1,
        start: if random { Start::Random } else { Start::Centre },
        goal_moves_every: rewards.2,
        time_input,
    })
}

/// The inputs, from the outside.
fn inputs(config: &Config, map: &Map, at: Square, t: u32, before: Option<usize>, reward: f32) -> Vec<f32> {
    let (row, column) = (at.row as usize, at.column as usize);
    let mut x = Vec::new();
    for walls in &map.0[row - 1..=row + 1] {
        x.extend(walls[column - 1..=column + 1].iter().map(|&wall| if wall { 1.0 } else { 0.0 }));
    }
    let mut action = [0.0; 4];
    let code = config.variant == Variant::Code;
    if let Some(slot) = before.or(code.then_some(0)).and_then(|before| action.get_mut(before)) {
        *slot = 1.0;
    }
    if code {
        let time = if config.time_input { t as f32 / config.steps as f32 } else { 0.0 };
        x.extend([0.0, 1.0, time, reward]);
        x.extend(action);
    } else {
        x.extend(action);
        x.push(reward);
    }
    x
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done, the world follows its rules. Action 4 and above are none.
    #[test]
    fn every_step_follows_the_rules(config in configs(), seed: u64, actions in prop::collection::vec(0..6usize, 120)) {
        let map = Map::new(config.size as usize);
        let mut task = maze(config);
        let mut twin = maze(config);
        twin.act(3);
        for task in [&mut task, &mut twin] {
            task.reset(Rng::new(seed).lifetime(Stream::Task, 0));
        }
        let (mut before, mut paid, mut hits) = (None, 0.0, 0);
        let mut x = vec![f32::NAN; task.inputs()];
        for t in 0..config.steps {
            let (position, goal) = (task.position(), task.goal());
            prop_assert!(!task.is_wall(position.row, position.column) && !task.is_wall(goal.row, goal.column));
            prop_assert_ne!(position, goal);
            task.observe(&mut x);
            prop_assert_eq!(&x, &inputs(&config, &map, position, t, before, paid));
            prop_assert!(x.iter().all(|x| x.abs() <= task.input_range()));

            let action = actions[t as usize];
            let here = (position.row as usize, position.column as usize);
            let there = if action < 4 { map.after(here, action) } else { here };
            let hit = there == (goal.row as usize, goal.column as usize);
            let outcome = task.act(action);
            prop_assert_eq!(twin.act(action), outcome);
            prop_assert_eq!(twin.to_string(), task.to_string());
            paid = if hit { config.reward } else if action < 4 && there == here { -config.wall_penalty } else { 0.0 };
            hits += u32::from(hit);
            prop_assert_eq!((outcome.reward, outcome.trial), (paid, hit.then_some(true)));
            prop_assert_eq!(task.hits(), hits);
            if hit {
                prop_assert_ne!(task.position(), goal);
            } else {
                prop_assert_eq!((task.position().row as usize, task.position().column as usize), there);
            }
            let every = config.goal_moves_every;
            prop_assert_eq!(task.goal() != goal, every > 0 && (t + 1) % every == 0);
            before = Some(action);
        }
    }

    /// No number is too strange, and no episode too long.
    #[test]
    fn nothing_panics(config in configs(), actions in prop::collection::vec(any::<usize>(), 300)) {
        let mut task = maze(config);
        for action in actions {
            task.act(action);
            let mut x = [0.0; 20];
            task.observe(&mut x);
            task.observe(&mut x[..3]);
            prop_assert!(x.iter().all(|x| x.abs() <= task.input_range()));
        }
        for player in [Player::Oracle, Player::Searcher, Player::Random] {
            player.hits(&mut task, 1);
        }
    }
}

#[test]
fn the_searcher_finds_a_goal_that_has_moved() {
    let mut maze = maze(Config {
        size: 7,
        steps: 2_000,
        goal_moves_every: 200,
        ..Config::default()
    });
    let hits = Player::Searcher.hits(&mut maze, 1);
    let oracle = Player::Oracle.hits(&mut maze, 1);
    assert!(oracle > hits && f64::from(hits) > 0.7 * f64::from(oracle), "{hits} of {oracle}");
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let default = Config::default();
    let mut refused: Vec<(&str, Config)> = Vec::new();
    refused.extend([0, 1, 3, 4, 6, 12, 32, 33, u32::MAX].map(|size| ("size", Config { size, ..default })));
    refused.push(("steps", Config { steps: 0, ..default }));
    refused.extend([0.0, -1.0, f32::NAN, f32::INFINITY].map(|reward| ("reward", Config { reward, ..default })));
    refused.extend([-1.0, f32::NAN, f32::INFINITY].map(|wall_penalty| ("wall_penalty", Config { wall_penalty, ..default })));
    for (option, config) in refused {
        let error = Maze::new(config).map(|_| ()).unwrap_err();
        assert_eq!(error.option, option, "{config:?}");
        assert!(error.to_string().contains("expected"), "{error}");
    }
}
