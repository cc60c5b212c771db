//! The figures that are measured, and their goals, one row per figure. Figures of Harness, whose numbers begin with an
//! H, have no goal; they serve for comparison.

/// Memory of an HTTP/2 stream when it was first measured, before anything was done about it: 5,000 connections over
/// TLS with a stream each, at commit 520d116. The goal of P15 is half of it.
const HTTP2_FIRST_KIB: f64 = 52.5;

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    IdleStreamMemory,
    IdleStreamMemoryLarge,
    DeliveryOverFloor,
    EvaluationCpu,
    StormTime,
    StormMemory,
    CallPooled,
    CallFresh,
    CallUnbound,
    EventBatch,
    SwapFailedRequests,
    SwapDroppedStreams,
    SwapTail,
    ColdStart,
    LargeStart,
    LoadFirst,
    LoadCompiled,
    IdleCpu,
    BinarySize,
    ImageSize,
    PatchCpu,
    PatchGrowth,
    PatchBytes,
    EnvironmentMemory,
    MemoryOverJson,
    TlsStreamMemory,
    TlsDelivery,
    Http2StreamMemory,
    BareRequest,
    PutTime,
    PutGrowth,
    BombTail,
    TextOneEvent,
    TextBatch,
    COneEvent,
    CBatch,
    RustOneEvent,
    RustBatch,
    JavaScriptActivation,
    PythonActivation,
    MemoryLeft,
    HerdServerCpu,
    HerdServerTime,
    HerdClientCpu,
    HerdClientTime,
}

/// A row of the table of goals.
pub(crate) struct Goal {
    pub(crate) figure: Figure,
    /// Number of the goal, in lower case.
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// Upper limit.
    pub(crate) goal: Option<f64>,
    pub(crate) stretch: Option<f64>,
}

const fn goal(
    figure: Figure,
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    goal: Option<f64>,
    stretch: Option<f64>,
) -> Goal {
    Goal { figure, id, what, unit, goal, stretch }
}

/// All rows.
pub(crate) const GOALS: &[Goal] = &[
    goal(Figure::IdleStreamMemory, "p1", "memory per idle /all stream", "KiB", Some(8.0), Some(2.0)),
    goal(Figure::IdleStreamMemoryLarge, "p1", "the same, environment of 1 MB", "KiB", Some(8.0), Some(2.0)),
    goal(Figure::DeliveryOverFloor, "p2", "CPU per delivered patch, over the floor", "ratio", Some(2.0), Some(1.25)),
    goal(Figure::EvaluationCpu, "p3", "CPU per evaluation of 1,000 flags", "us", Some(150.0), Some(100.0)),
    goal(Figure::StormTime, "p4", "5,000 streams at once, 1 MB each", "s", Some(3.0), Some(1.5)),
    goal(Figure::StormMemory, "p4", "extra resident memory of that", "MiB", Some(64.0), None),
    goal(Figure::CallPooled, "p5", "request plugin, pooled instance, added p50", "us", Some(2.0), Some(1.0)),
    goal(Figure::CallFresh, "p5", "request plugin, instance per call, added p50", "us", Some(10.0), Some(6.0)),
    goal(Figure::CallUnbound, "p5", "an environment without plugins beside, added p50", "us", Some(0.5), None),
    goal(Figure::EventBatch, "p6", "event filter, 100 events of 300 B, over native", "ratio", Some(1.5), Some(1.1)),
    goal(Figure::SwapFailedRequests, "p7", "plugin swaps under load: failed requests", "", Some(0.0), Some(0.0)),
    goal(Figure::SwapDroppedStreams, "p7", "plugin swaps under load: dropped streams", "", Some(0.0), Some(0.0)),
    goal(Figure::SwapTail, "p7", "plugin swaps under load: p99 over p99 before", "ratio", None, Some(1.2)),
    goal(Figure::ColdStart, "p8", "start to serving 1 MB from the data folder", "ms", Some(200.0), Some(50.0)),
    goal(Figure::LargeStart, "p8", "start to serving 17 MB from the data folder", "ms", Some(150.0), None),
    goal(Figure::LoadFirst, "p9", "plugin of 1 MB, written to active, first time", "s", Some(2.0), Some(0.8)),
    goal(Figure::LoadCompiled, "p9", "plugin written to active, compiled before", "ms", Some(300.0), Some(100.0)),
    goal(Figure::IdleCpu, "p10", "idle CPU with all streams of P1 open", "% core", Some(1.0), Some(0.3)),
    goal(Figure::BinarySize, "p11", "release binary", "MB", Some(40.0), Some(25.0)),
    goal(Figure::ImageSize, "p11", "image", "MB", Some(60.0), Some(25.0)),
    goal(Figure::PatchCpu, "p12", "CPU per change of one of 10,000 flags", "us", Some(300.0), Some(100.0)),
    goal(Figure::PatchGrowth, "p12", "the same of 50,000 flags over 100 flags", "ratio", Some(1.5), Some(1.1)),
    goal(Figure::PatchBytes, "p12", "bytes written to disk over those of the flag", "ratio", None, None),
    goal(Figure::EnvironmentMemory, "p13", "memory per environment of 200 flags", "KB", Some(500.0), Some(300.0)),
    goal(Figure::MemoryOverJson, "p13", "memory over the JSON of 10,000 flags", "ratio", Some(3.0), Some(2.0)),
    goal(Figure::TlsStreamMemory, "p14", "memory per idle /all stream over TLS", "KiB", Some(6.0), Some(3.0)),
    goal(Figure::TlsDelivery, "p14", "CPU per delivered patch, over floor with TLS", "ratio", Some(1.5), None),
    goal(
        Figure::Http2StreamMemory,
        "p15",
        "memory per idle /all stream over HTTP/2",
        "KiB",
        Some(HTTP2_FIRST_KIB / 2.0),
        Some(4.0),
    ),
    goal(Figure::BareRequest, "p16", "CPU per request of /status, over the floor", "ratio", Some(1.5), Some(1.2)),
    goal(Figure::PutTime, "p17", "`put` of 8 MiB in small pieces, until served", "ms", Some(300.0), Some(150.0)),
    goal(Figure::PutGrowth, "p17", "the same of 64 MiB, over eight times that", "ratio", Some(1.5), Some(1.0)),
    goal(
        Figure::BombTail,
        "p18",
        "p99 of servers beside large anonymous requests, over quiet",
        "ratio",
        Some(2.0),
        Some(1.2),
    ),
    goal(Figure::TextOneEvent, "p19", "event filter in text, one event read", "us", Some(52.0), None),
    goal(Figure::TextBatch, "p19", "the same, the kinds of 100 events", "us", Some(65.0), None),
    goal(Figure::COneEvent, "p19", "event filter in C, one event read", "us", Some(68.0), None),
    goal(Figure::CBatch, "p19", "the same, the kinds of 100 events", "us", Some(78.0), None),
    goal(Figure::RustOneEvent, "p19", "event filter in Rust, one event read", "us", Some(75.0), None),
    goal(Figure::RustBatch, "p19", "the same, the kinds of 100 events", "us", Some(85.0), None),
    goal(Figure::JavaScriptActivation, "p19", "first activation of it in JavaScript", "s", Some(2.0), None),
    goal(Figure::PythonActivation, "p19", "first activation of it in Python", "s", Some(10.0), None),
    goal(Figure::MemoryLeft, "p19", "most memory that a language leaves behind", "MiB", Some(16.0), None),
    goal(Figure::HerdServerCpu, "h1", "Harness: CPU per stream of a change, fetched by all", "us", None, None),
    goal(Figure::HerdServerTime, "h1", "the same: until 99 % have it, server SDKs", "ms", None, None),
    goal(Figure::HerdClientCpu, "h2", "Harness: the same, evaluated for each client", "us", None, None),
    goal(Figure::HerdClientTime, "h2", "the same: until 99 % have it, client SDKs", "ms", None, None),
];
