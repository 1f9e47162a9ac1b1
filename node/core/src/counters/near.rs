//! The limits of which it is counted that they are nearly reached.

reasons! {
    /// A limit, to count how often 80 percent of it are reached. Limits of the node count when the node comes near, and again
    /// only after it was far from them; limits of a connection or an address count for each.
    Limit {
        /// Connections of the node.
        Connections => "connections",
        /// Rooms of the node.
        Rooms => "rooms",
        /// The memory budget of a shard.
        Memory => "memory",
        /// Connections of one address.
        AddressConnections => "address_connections",
        /// Connects per second, all together.
        Handshakes => "handshakes",
        /// Connects per second of one address.
        AddressHandshakes => "address_handshakes",
        /// Joins per second of one connection.
        Joins => "joins",
        /// Joins per second of one address.
        AddressJoins => "address_joins",
        /// Messages per second of one connection.
        Messages => "messages",
        /// Bytes per second of one connection.
        Bytes => "bytes",
        /// Joined topics of one connection.
        Channels => "channels",
        /// Members of one room.
        Members => "members",
        /// Length of one message.
        Frame => "frame",
        /// Length of the head of one request.
        RequestHead => "request_head",
        /// Length of one topic.
        Topic => "topic",
        /// Length of the name of one event.
        Event => "event",
        /// Length of one payload.
        Payload => "payload",
        /// Nesting of one payload, where the limit is lower than what messages are read with.
        JsonDepth => "json_depth",
        /// The queue of one connection that takes nothing.
        SendQueue => "send_queue",
    }
}

impl Limit {
    /// The key of the limit in the node's file.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Connections => "limits.maxConnections",
            Self::Rooms => "limits.maxRooms",
            Self::Memory => "limits.memoryBudget",
            Self::AddressConnections => "limits.maxConnectionsPerAddress",
            Self::Handshakes => "limits.handshakesPerSecond",
            Self::AddressHandshakes => "limits.handshakesPerSecondPerAddress",
            Self::Joins => "limits.joinsPerSecond",
            Self::AddressJoins => "limits.joinsPerSecondPerAddress",
            Self::Messages => "limits.messagesPerSecond",
            Self::Bytes => "limits.bytesPerSecond",
            Self::Channels => "limits.maxChannelsPerConnection",
            Self::Members => "rooms.maxMembers",
            Self::Frame => "limits.maxFrameBytes",
            Self::RequestHead => "limits.maxRequestHeadBytes",
            Self::Topic => "limits.maxTopicBytes",
            Self::Event => "limits.maxEventBytes",
            Self::Payload => "limits.maxPayloadBytes",
            Self::JsonDepth => "limits.maxJsonDepth",
            Self::SendQueue => "limits.sendQueueBytes",
        }
    }
}

/// The least amount that is near a limit of `most`: 80 percent of it.
#[must_use]
pub const fn near(most: u64) -> u64 {
    most.saturating_mul(4).div_ceil(5)
}
