-- Write down what the beats of a window said, beside a table that is there. The table itself is not touched, nor its
-- revision: no reader has to notice.
--
-- KEYS  1 meta  2 epoch
-- ARGV  1 the writer's epoch  2 end of the window, ms  3… fields of meta: name, value, name, value
-- Returns {'WRITTEN'} (also when a newer window is there already), {'NEED_SNAPSHOT', '0'} when there is no table,
-- {'NOT_OPEN'} or {'FENCED', job id, attempt, epoch}.

local owner = redis.call('HMGET', KEYS[2], 'epoch', 'job_id', 'attempt')
if not owner[1] then
  return {'NOT_OPEN'}
end
if owner[1] ~= ARGV[1] then
  return {'FENCED', owner[2], owner[3], owner[1]}
end

local meta = redis.call('HMGET', KEYS[1], 'revision', 'epoch', 'window_end')
if not meta[1] then
  return {'NEED_SNAPSHOT', '0'}
end
if (tonumber(meta[2]) or 0) > tonumber(ARGV[1]) then
  -- As in publish.lua: the epoch key was lost, and the table is of a later writer, whoever that was.
  return {'FENCED', '', '-1', meta[2]}
end
if (tonumber(meta[3]) or 0) <= tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], unpack(ARGV, 3))
end
return {'WRITTEN'}
