use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// A file whose requests are recorded, and can be held until a test lets them go.
struct Recorded {
    key: Key,
    world: Arc<World>,
}

type Key = (AccountId, u32);

#[derive(Default)]
struct World {
    opened: Mutex<Vec<u32>>,
    closed: Mutex<Vec<u32>>,
    writing: Mutex<HashMap<Key, usize>>,
    groups: Mutex<Vec<usize>>,
    refuse_opens: Mutex<bool>,
}

enum Ask {
    Answer,
    /// Says that it began, then waits for the test.
    Hold(Sender<()>, Receiver<()>),
    Panic,
    /// A read that turns out to write.
    Writes,
}

struct Call {
    ask: Ask,
    answer: Sender<Result<&'static str, Refused>>,
}

impl Call {
    fn run(self, by: &'static str) {
        match self.ask {
            Ask::Answer | Ask::Writes => {}
            Ask::Hold(began, go) => {
                began.send(()).unwrap();
                go.recv().unwrap();
            }
            Ask::Panic => panic!("asked for by a test"),
        }
        let _ = self.answer.send(Ok(by));
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        lock(&self.world.closed).push(self.key.1);
    }
}

impl File for Recorded {
    type Key = Key;
    type Context = Arc<World>;
    type Write = Call;
    type Read = Call;
    type Shared = ();
    type Reader = ();
    type Error = Refused;

    fn account(key: &Key) -> &AccountId {
        &key.0
    }

    fn open(world: &Arc<World>, key: &Key) -> Result<Self, Refused> {
        if *lock(&world.refuse_opens) {
            return Err(Refused::Stopping);
        }
        lock(&world.opened).push(key.1);
        Ok(Self {
            key: key.clone(),
            world: Arc::clone(world),
        })
    }

    fn shared(&self) -> Arc<()> {
        Arc::new(())
    }

    fn open_reader(_: &Arc<()>) -> Result<(), Refused> {
        Ok(())
    }

    fn run_group(&mut self, group: &mut Group<'_, Self>) -> bool {
        let writers = {
            let mut writing = lock(&self.world.writing);
            let writers = writing.entry(self.key.clone()).or_default();
            *writers += 1;
            *writers
        };
        assert_eq!(writers, 1, "one writer at a time");
        while let Some(call) = group.next() {
            call.run("writer");
        }
        lock(&self.world.groups).push(group.taken());
        *lock(&self.world.writing).get_mut(&self.key).unwrap() -= 1;
        true
    }

    fn run_read((): &mut (), call: Call) -> Option<Call> {
        if matches!(call.ask, Ask::Writes) {
            return Some(call);
        }
        call.run("reader");
        None
    }

    fn refuse_write(call: Call, error: &Refused) {
        let _ = call.answer.send(Err(*error));
    }

    fn refuse_read(call: Call, error: &Refused) {
        let _ = call.answer.send(Err(*error));
    }
}

type Answer = Receiver<Result<&'static str, Refused>>;

struct Held {
    began: Receiver<()>,
    go: Sender<()>,
    answer: Answer,
}

impl Held {
    fn finish(self) {
        self.go.send(()).unwrap();
        self.answer.recv().unwrap().unwrap();
    }
}

struct Bench {
    pool: Pool,
    files: Files<Recorded>,
    world: Arc<World>,
}

impl Bench {
    #[expect(clippy::needless_pass_by_value, reason = "shorter at each call")]
    fn new(threads: usize, options: FilesOptions) -> Self {
        Self::with_pool(
            PoolOptions {
                threads,
                max_threads: threads,
                ..PoolOptions::metadata()
            },
            &options,
        )
    }

    fn with_pool(pool: PoolOptions, options: &FilesOptions) -> Self {
        let pool = Pool::start(pool).unwrap();
        let world = Arc::new(World::default());
        let files = Files::new(
            pool.clone(),
            Arc::clone(&world),
            FilesOptions {
                // No test depends on how fast it runs.
                group_time: Duration::from_mins(10),
                ..options.clone()
            },
        );
        Self { pool, files, world }
    }

    fn call(ask: Ask) -> (Call, Answer) {
        let (answer, got) = channel();
        (Call { ask, answer }, got)
    }

    fn write(&self, key: &Key, ask: Ask) -> Answer {
        let (call, answer) = Self::call(ask);
        self.files.write(key, call).unwrap();
        answer
    }

    fn read(&self, key: &Key, ask: Ask) -> Answer {
        let (call, answer) = Self::call(ask);
        self.files.read(key, call).unwrap();
        answer
    }

    /// A write that has begun and waits.
    fn hold(&self, key: &Key) -> Held {
        let (began_in, began) = channel();
        let (go, go_out) = channel();
        let answer = self.write(key, Ask::Hold(began_in, go_out));
        Held { began, go, answer }
    }

    fn hold_begun(&self, key: &Key) -> Held {
        let held = self.hold(key);
        held.began.recv().unwrap();
        held
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.files.close();
        self.pool.stop();
    }
}

fn key(number: u32) -> Key {
    (AccountId::local(), number)
}

#[test]
fn a_read_does_not_wait_behind_a_writer() {
    let bench = Bench::new(2, FilesOptions::default());
    let held = bench.hold_begun(&key(1));
    assert_eq!(
        bench.read(&key(1), Ask::Answer).recv().unwrap(),
        Ok("reader")
    );
    held.finish();
}

#[test]
fn a_read_that_writes_is_handed_to_the_writer() {
    let bench = Bench::new(1, FilesOptions::default());
    assert_eq!(
        bench.read(&key(1), Ask::Writes).recv().unwrap(),
        Ok("writer")
    );
}

#[test]
fn requests_that_wait_form_groups_of_64_at_most() {
    let bench = Bench::new(1, FilesOptions::default());
    // The only thread is busy elsewhere, so all of these wait.
    let held = bench.hold_begun(&key(1));
    let answers: Vec<_> = (0..100)
        .map(|_| bench.write(&key(2), Ask::Answer))
        .collect();
    held.finish();
    for answer in answers {
        assert_eq!(answer.recv().unwrap(), Ok("writer"));
    }
    bench.files.close();
    assert_eq!(*lock(&bench.world.groups), [1, 64, 36]);
}

#[test]
fn a_full_queue_refuses_at_once() {
    let bench = Bench::new(
        1,
        FilesOptions {
            queue: 3,
            ..FilesOptions::default()
        },
    );
    let held = bench.hold_begun(&key(1));
    let waiting: Vec<_> = (0..3).map(|_| bench.write(&key(1), Ask::Answer)).collect();
    let (call, _answer) = Bench::call(Ask::Answer);
    assert_eq!(bench.files.write(&key(1), call), Err(Refused::Full));
    assert_eq!(Refused::Full.kind(), ErrorKind::Unavailable);
    held.finish();
    for answer in waiting {
        answer.recv().unwrap().unwrap();
    }
}

#[test]
fn open_files_are_capped_and_the_least_recently_used_one_goes() {
    let bench = Bench::new(
        4,
        FilesOptions {
            max_open: 3,
            ..FilesOptions::default()
        },
    );
    let ask = |number| {
        bench
            .write(&key(number), Ask::Answer)
            .recv()
            .unwrap()
            .unwrap()
    };
    for number in [1, 2, 3, 1, 4] {
        ask(number);
        // The turn ends after its answer; a file still in use would not be closed.
        bench.files.settle();
    }
    assert_eq!(*lock(&bench.world.closed), [2]);
    for number in 0..300 {
        ask(number);
        assert!(bench.files.open_files() <= 3 + 4);
    }
    bench.files.settle();
    ask(1);
    assert_eq!(bench.files.open_files(), 3);
}

#[test]
fn closing_executes_what_is_queued_and_refuses_what_comes_after() {
    let bench = Bench::new(1, FilesOptions::default());
    let held = bench.hold_begun(&key(1));
    let answers: Vec<_> = (0..50).map(|_| bench.write(&key(1), Ask::Answer)).collect();
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| bench.files.close());
        held.finish();
        closing.join().unwrap();
    });
    for answer in answers {
        assert_eq!(answer.recv().unwrap(), Ok("writer"));
    }
    assert_eq!(*lock(&bench.world.closed), [1]);
    let (call, _answer) = Bench::call(Ask::Answer);
    assert_eq!(bench.files.write(&key(1), call), Err(Refused::Stopping));
}

#[test]
fn a_file_that_cannot_be_opened_answers_with_the_reason_and_is_tried_again() {
    let bench = Bench::new(1, FilesOptions::default());
    *lock(&bench.world.refuse_opens) = true;
    let refused = Err(Refused::Stopping);
    assert_eq!(bench.write(&key(1), Ask::Answer).recv().unwrap(), refused);
    assert_eq!(bench.read(&key(1), Ask::Answer).recv().unwrap(), refused);
    *lock(&bench.world.refuse_opens) = false;
    assert!(bench.read(&key(1), Ask::Answer).recv().unwrap().is_ok());
}

#[test]
fn a_panic_closes_its_file_and_nothing_else() {
    let bench = Bench::new(1, FilesOptions::default());
    assert!(bench.write(&key(1), Ask::Panic).recv().is_err());
    bench.files.settle();
    assert_eq!(*lock(&bench.world.closed), [1]);
    lock(&bench.world.writing).clear();
    assert_eq!(
        bench.write(&key(1), Ask::Answer).recv().unwrap(),
        Ok("writer")
    );
    assert!(bench.read(&key(1), Ask::Panic).recv().is_err());
    assert_eq!(
        bench.read(&key(1), Ask::Answer).recv().unwrap(),
        Ok("reader")
    );
}

#[test]
fn removing_waits_for_the_running_turn_and_refuses_the_queue() {
    let bench = Bench::new(1, FilesOptions::default());
    let held = bench.hold_begun(&key(1));
    let queued = bench.write(&key(1), Ask::Answer);
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| {
            bench
                .files
                .remove(&key(1), || lock(&bench.world.closed).clone())
        });
        assert_eq!(queued.recv().unwrap(), Err(Refused::Stopping));
        held.finish();
        assert_eq!(removing.join().unwrap(), Ok(vec![1]));
    });
    // The same key is a new file afterwards.
    assert_eq!(
        bench.write(&key(1), Ask::Answer).recv().unwrap(),
        Ok("writer")
    );
    assert_eq!(*lock(&bench.world.opened), [1, 1]);
}

fn long_pool(threads: usize, long_per_account: usize) -> PoolOptions {
    PoolOptions {
        name: "test",
        threads,
        max_threads: 4,
        long_after: Some(Duration::from_millis(20)),
        long_per_account,
    }
}

#[test]
fn a_spare_thread_takes_the_place_of_a_long_turn() {
    let bench = Bench::with_pool(long_pool(1, 4), &FilesOptions::default());
    let held: Vec<_> = (1..=3)
        .map(|number| bench.hold_begun(&key(number)))
        .collect();
    assert!(bench.write(&key(9), Ask::Answer).recv().unwrap().is_ok());
    assert_eq!(bench.pool.counts(), (4, 3));
    held.into_iter().for_each(Held::finish);
    // A fourth long turn is the last: no thread is left for what follows it.
    let (threads, _) = bench.pool.counts();
    assert!(threads <= 4);
}

#[test]
fn an_account_with_too_many_long_turns_waits_and_others_do_not() {
    let bench = Bench::with_pool(long_pool(1, 1), &FilesOptions::default());
    let other = (AccountId::new("other"), 1);
    let held = bench.hold_begun(&key(1));
    // Answered by the spare thread, so the held turn counts as long from here on.
    assert!(bench.write(&other, Ask::Answer).recv().unwrap().is_ok());
    let waits = bench.hold(&key(2));
    for _ in 0..20 {
        assert!(bench.write(&other, Ask::Answer).recv().unwrap().is_ok());
    }
    assert!(waits.began.try_recv().is_err(), "set aside");
    held.finish();
    waits.began.recv().unwrap();
    waits.finish();
}
