//! The rules of DESIGN §5–§7, each with a switch that breaks it.

/// A rule that can be broken. The doc says what it stands for; `docs/decisions/0001-model-findings.md` has what breaks without it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Rule {
    // §6.2 append
    /// "When the device is attached it raises `offered`."
    AppendRaisesOffered,
    /// So does a try that finds its id: its `Deliver` may be the first that an attached device gets.
    FoundAppendRaisesOffered,
    /// "It keeps the ids of its last 16 appends with their results; … a retry does."
    RetryReadsRecentIds,
    /// A first try reads the recent ids too: its own retry may have overtaken it.
    FirstTryReadsRecentIds,
    /// "A retried append whose id is not found is `unknown` when the ring is full": when an id was evicted since the first try.
    RingOverrunIsUnknown,
    /// "… or the lineage changed, never appended again."
    NewLineageIsUnknown,
    /// "A client's `Idempotency-Key` is a key of its own."
    IdempotencyKeyIsRemembered,
    /// "Returns id and current session in one round trip", so a `Deliver` follows at once.
    AppendReturnsSession,
    // §6.3 attach
    /// "max(stored, **the device's last**, the ticket's floor) + 1".
    EpochExceedsDevicesLast,
    /// "max(stored, the device's last, **the ticket's floor**) + 1".
    EpochExceedsTicketsFloor,
    /// An epoch is at least the store's time in ms, as a generation is, so that none repeats.
    EpochIsTheTime,
    /// "Refuses an attempt number ≤ the stored one of the same incarnation."
    LateAttemptIsRefused,
    /// An attach of another boot must know the stored epoch (by its ticket or its memory).
    OtherBootNamesTheEpoch,
    /// "An equal attempt from the same server is the same attach again."
    EqualAttemptIsSameAttach,
    /// … and returns what the first try replaced, so that it is kicked.
    SameAttachReturnsReplaced,
    /// "Refuses revoked devices."
    RevokedIsRefused,
    /// "Trims up to the device's cursor."
    AttachTrimsToCursor,
    /// "The cursor trims by the pair."
    CursorTrimsByThePair,
    /// "Returns the session it replaced."
    AttachReturnsReplaced,
    /// "The previous `offered` (what is ≤ it goes out as `redelivered`)."
    OfferedIsRedelivered,
    /// "At most a window (or 16 KiB) of entries."
    AttachGivesAtMostAWindow,
    /// "After 8 the head is `failed` and the next goes out."
    PoisonIsGivenUp,
    /// "… offered **without progress**."
    ProgressResetsAttempts,
    /// "A server retries a timed-out attach only while that socket lives."
    AttachRetriesWhileSocketLives,
    /// "`read_mailbox` raises `offered` too."
    ReadRaisesOffered,
    /// A read names its session; another one's read is refused and changes nothing.
    ReadNamesItsSession,
    /// "`detach` compares server **incarnation** and epoch."
    DetachNamesTheIncarnation,
    /// "`detach` compares server incarnation and **epoch**."
    DetachNamesTheEpoch,
    /// "A server's own table removes an entry only if the epoch is its own" (§5).
    TableRemovesOwnEntry,
    // §6.4 acknowledge
    /// "`acknowledge` is a maximum, so repeating it is harmless."
    AcknowledgeIsAMaximum,
    /// "Outcomes other than acked are kept in a ring."
    OutcomesAreKept,
    /// "Older means `unknown`."
    OlderThanTheRingIsUnknown,
    /// "The ack is retried until written."
    AckIsRetried,
    /// `wait=acked` answers when the store has the ack ("only if a later state never contradicts it").
    AckedAfterStored,
    /// "A message is not expired while a live session holds it in flight."
    InFlightIsNotExpired,
    /// "When that session ends it is `expired` with `may_have_run`."
    OfferedMayHaveRun,
    /// A refused message is written as such before an ack that covers it.
    NackBeforeLaterAck,
    /// A device names in its `Hello` what it refused lately, since its cursor covers that too.
    NacksComeWithHello,
    // §6.5 lineage
    /// "When `append` or `attach` sees another one, it first opens a new generation."
    NewLineageOpensGeneration,
    /// "max(**store's now in ms**, generation + 1, device's + 1)".
    GenerationIsTheTime,
    /// "max(store's now in ms, generation + 1, **device's + 1**)".
    GenerationExceedsDevices,
    /// "Survivors keep their ids."
    SurvivorsKeepTheirIds,
    /// "A new lineage raises `offered` to last."
    NewLineageRaisesOffered,
    /// "`may_have_run` is always true under another lineage."
    OtherLineageMayHaveRun,
    /// "Second line: at attach against the device's cursor".
    CursorAheadOpensGeneration,
    /// … and that is the highest pair it *received*, which may be above what it has handled.
    HelloNamesReceived,
    /// "… on a live session against the highest sequence ever *sent*."
    SentAheadOpensGeneration,
    /// A state is asked by the pair: a sequence that belongs to another generation is `unknown`.
    StateNamesTheGeneration,
    /// What a trim covers but does not prove under a new lineage is `unknown`.
    DoubtfulTrimIsUnknown,
    /// A session that the store forgot is written again (§6.8).
    SessionIsReasserted,
    /// … but only when no newer one was made since, even if that has left.
    ReassertNamesTheEpoch,
    /// … and boot and attempt with it, so that a late attach stays late.
    ReassertRestoresAttempt,
    // §4, §9 the device
    /// "The device drops a message that is already in its handler."
    DropsWhatIsInHandler,
    /// "Each once while the device keeps its cursor": ids at or below the cursor are dropped.
    DropsBelowCursor,
    /// "`Generation` (answered in order; acks before the answer belong to the older one)."
    AcksBelongToAnsweredGeneration,
    /// A device acks only under the generation of the message.
    AcksNameTheirGeneration,
    /// "The handler's return acknowledges; taking a message from a queue does not" (§2.3).
    HandlerReturnAcknowledges,
    // §7 forwarding a send
    /// "The rest runs in a task of its own that the HTTP connection cannot cancel."
    AppendOutlivesTheClient,
    /// "A server compares the store's last … for each device once per heartbeat."
    HeartbeatComparesLast,
    /// "The heartbeat check compares (generation, last), not last alone."
    HeartbeatComparesGeneration,
    /// … and first: when an entry waits that this session holds as settled, the mailbox went back, and the device attaches anew.
    HeartbeatComparesFirst,
    /// "A `Deliver` that is next in order … goes straight out", any other one does not.
    OnlyNextGoesStraight,
    /// "A `Deliver` goes straight out only in the generation of the last message sent."
    StraightOnlyInGeneration,
    /// "Fits the window goes straight out", a fuller one does not.
    StraightOnlyInWindow,
    /// "Else … the more-waiting flag set."
    ElseMoreWaiting,
    /// "A message delivered meanwhile (attaching) only sets a more-waiting flag" (§5).
    AttachingSetsMoreWaiting,
    /// "One read at a time per device."
    OneReadAtATime,
    /// A read's reply is filtered by what went out since it was asked.
    ReadSkipsWhatWasSent,
    /// The more-waiting flag is cleared when the read is asked, not when it is answered.
    ReadClearsFlagWhenAsked,
    // §7 forwarding a call
    /// "A route believes `NotHere` only if its epoch is ≥ the one it asked for."
    NotHereNamesTheEpoch,
    /// "Looks up once more, and says `offline` only when the server denied the device."
    LooksUpBeforeOffline,
    /// "A call waits there (attaching) within its deadline" (§5).
    CallWaitsWhileAttaching,
    /// "The server enters the device in its table as *attaching*, then `attach`" (§5).
    TableBeforeAttach,
    /// "If it moved, it kicks the old server and never sends the call twice."
    CallIsSentOnce,
    /// "The device checks a call's deadline when the handler starts" (§4).
    DeadlineAtHandlerStart,
    /// A call whose connection broke is answered `disconnected`, never `offline`.
    BrokenIsDisconnected,
    /// "Its sessions count as offline since they name a dead incarnation": a route compares the incarnation.
    RouteComparesIncarnation,
    // §7 kick
    /// "The new server sends `Kick` … until `Kicked`, `NotHere`, or that incarnation is gone."
    KickIsRetried,
    /// "`Kick{device, epoch}`": that epoch and older ones are closed, a newer one never.
    KickNamesTheEpoch,
    /// "Believes `Kicked` only from the server and epoch that the session names."
    KickNamesTheIncarnation,
    /// A kick also ends an attach that is still under way: its reply, when it comes, is not believed.
    KickReachesAttaching,
    /// An attach reply of an epoch below one that this server has had is not believed, even when that one has left.
    LateReplyIsNotBelieved,
    /// An attach whose reply comes too late to be used still kicks what it replaced.
    LateReplyStillKicks,
    /// "Routes on the way drop their cache entry."
    KickDropsRouteCache,
    // §6.6 events
    /// "Dedup is by (queue incarnation, sequence) in the same step as the append."
    EventsAreDeduplicated,
    /// "The incarnation belongs to the device's *queue*: new only when the queue starts empty."
    QueueIncarnationOutlivesBoot,
    /// … and new whenever it does.
    EmptyQueueIsNewIncarnation,
    /// "The device keeps an event until it is acknowledged."
    EventsAreKeptUntilAcked,
}

impl Rule {
    /// Every rule, in the order of DESIGN.
    pub const ALL: &[Self] = &[
        Self::AppendRaisesOffered,
        Self::FoundAppendRaisesOffered,
        Self::RetryReadsRecentIds,
        Self::FirstTryReadsRecentIds,
        Self::RingOverrunIsUnknown,
        Self::NewLineageIsUnknown,
        Self::IdempotencyKeyIsRemembered,
        Self::AppendReturnsSession,
        Self::EpochExceedsDevicesLast,
        Self::EpochExceedsTicketsFloor,
        Self::EpochIsTheTime,
        Self::LateAttemptIsRefused,
        Self::OtherBootNamesTheEpoch,
        Self::EqualAttemptIsSameAttach,
        Self::SameAttachReturnsReplaced,
        Self::RevokedIsRefused,
        Self::AttachTrimsToCursor,
        Self::CursorTrimsByThePair,
        Self::AttachReturnsReplaced,
        Self::OfferedIsRedelivered,
        Self::AttachGivesAtMostAWindow,
        Self::PoisonIsGivenUp,
        Self::ProgressResetsAttempts,
        Self::AttachRetriesWhileSocketLives,
        Self::ReadRaisesOffered,
        Self::ReadNamesItsSession,
        Self::DetachNamesTheIncarnation,
        Self::DetachNamesTheEpoch,
        Self::TableRemovesOwnEntry,
        Self::AcknowledgeIsAMaximum,
        Self::OutcomesAreKept,
        Self::OlderThanTheRingIsUnknown,
        Self::AckIsRetried,
        Self::AckedAfterStored,
        Self::InFlightIsNotExpired,
        Self::OfferedMayHaveRun,
        Self::NackBeforeLaterAck,
        Self::NacksComeWithHello,
        Self::NewLineageOpensGeneration,
        Self::GenerationIsTheTime,
        Self::GenerationExceedsDevices,
        Self::SurvivorsKeepTheirIds,
        Self::NewLineageRaisesOffered,
        Self::OtherLineageMayHaveRun,
        Self::CursorAheadOpensGeneration,
        Self::HelloNamesReceived,
        Self::SentAheadOpensGeneration,
        Self::StateNamesTheGeneration,
        Self::DoubtfulTrimIsUnknown,
        Self::SessionIsReasserted,
        Self::ReassertNamesTheEpoch,
        Self::ReassertRestoresAttempt,
        Self::DropsWhatIsInHandler,
        Self::DropsBelowCursor,
        Self::AcksBelongToAnsweredGeneration,
        Self::AcksNameTheirGeneration,
        Self::HandlerReturnAcknowledges,
        Self::AppendOutlivesTheClient,
        Self::HeartbeatComparesLast,
        Self::HeartbeatComparesGeneration,
        Self::HeartbeatComparesFirst,
        Self::OnlyNextGoesStraight,
        Self::StraightOnlyInGeneration,
        Self::StraightOnlyInWindow,
        Self::ElseMoreWaiting,
        Self::AttachingSetsMoreWaiting,
        Self::OneReadAtATime,
        Self::ReadSkipsWhatWasSent,
        Self::ReadClearsFlagWhenAsked,
        Self::NotHereNamesTheEpoch,
        Self::LooksUpBeforeOffline,
        Self::CallWaitsWhileAttaching,
        Self::TableBeforeAttach,
        Self::CallIsSentOnce,
        Self::DeadlineAtHandlerStart,
        Self::BrokenIsDisconnected,
        Self::RouteComparesIncarnation,
        Self::KickIsRetried,
        Self::KickNamesTheEpoch,
        Self::KickNamesTheIncarnation,
        Self::KickReachesAttaching,
        Self::LateReplyIsNotBelieved,
        Self::LateReplyStillKicks,
        Self::KickDropsRouteCache,
        Self::EventsAreDeduplicated,
        Self::QueueIncarnationOutlivesBoot,
        Self::EmptyQueueIsNewIncarnation,
        Self::EventsAreKeptUntilAcked,
    ];
}

/// The rules that are broken in a run, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Broken(u128);

impl Broken {
    /// Nothing is broken.
    pub const NONE: Self = Self(0);

    /// One more rule broken.
    pub const fn and(self, rule: Rule) -> Self {
        Self(self.0 | 1 << rule as u8)
    }

    /// Whether the rule is broken.
    pub const fn breaks(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u8) != 0
    }

    /// Whether the rule is kept.
    pub const fn keeps(self, rule: Rule) -> bool {
        !self.breaks(rule)
    }
}
