-- Read some of one service's entries, and with them, at the same moment, everything the audit compares.
--
-- KEYS  1 route  2 meta  3 instances  4 services
-- ARGV  1 service  2 cursor  3 how many entries, about
-- Returns {cursor, entries of route, entries of instances, 1 when listed, fields of meta, {id, text, id, text, …}}.

local scan = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
return {
  scan[1],
  redis.call('HLEN', KEYS[1]),
  redis.call('HLEN', KEYS[3]),
  redis.call('SISMEMBER', KEYS[4], ARGV[1]),
  redis.call('HMGET', KEYS[2], 'revision', 'epoch', 'digest', 'event_time', 'position', 'endpoints'),
  scan[2],
}
