-- Make one publication visible, or say why not. Nothing is written unless everything is.
--
-- KEYS  1 route  2 meta  3 instances  4 log  5 readers  6 services  7 changes  8 epoch
-- ARGV  1 the request, a JSON object:
--         op, service, epoch, base, revision, changes_maxlen, log_maxlen   strings
--         meta, log, change            fields to write: flat lists name, value, name, value
--         routes_set, instances_set    flat lists id, text, id, text
--         routes_gone, instances_gone  lists of ids
-- Returns {'WRITTEN'}, {'NEED_SNAPSHOT', stored revision}, {'NOT_OPEN'} or {'FENCED', job id, attempt, epoch}.
--
-- Everything in the request is a string, numbers too: Lua would print a revision as 1.795e+15. They become
-- numbers for comparing only, which is exact below 2^53. Texts come out of cjson byte for byte because they are JSON
-- strings to it; nothing here ever encodes.

local request = cjson.decode(ARGV[1])
local base, revision = tonumber(request.base), tonumber(request.revision)

local owner = redis.call('HMGET', KEYS[8], 'epoch', 'job_id', 'attempt')
if not owner[1] then
  return {'NOT_OPEN'}
end
if owner[1] ~= request.epoch then
  return {'FENCED', owner[2], owner[3], owner[1]}
end

-- What somebody scribbled there counts as nothing, and is overwritten.
local function whole(text)
  return text and text:match('^%d+$') and tonumber(text) < 9007199254740992 and text or '0'
end

local meta = redis.call('HMGET', KEYS[2], 'revision', 'epoch')
local stored, written_in = whole(meta[1]), whole(meta[2])
if tonumber(written_in) > tonumber(request.epoch) then
  -- Who wrote that is unknown: the epoch key was lost and this writer's clock is behind, or somebody edited meta.
  return {'FENCED', '', '-1', written_in}
end

if request.op == 'snapshot' then
  if revision <= tonumber(stored) then
    return {'NEED_SNAPSHOT', stored}
  end
elseif tonumber(stored) ~= base then
  return {'NEED_SNAPSHOT', stored}
end

-- Redis does not roll back a script that fails half way. A key of a wrong type must fail here, before any write.
redis.call('HLEN', KEYS[1])
redis.call('HLEN', KEYS[3])
redis.call('XLEN', KEYS[4])
redis.call('SCARD', KEYS[6])
redis.call('XLEN', KEYS[7])

-- unpack() takes a little under 8,000 values; the number is even because some lists hold pairs.
local CHUNK = 4000

local function in_chunks(command, key, values)
  for first = 1, #values, CHUNK do
    redis.call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end

if request.op == 'removed' then
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
  redis.call('SREM', KEYS[6], request.service)
elseif request.op == 'snapshot' or revision ~= base then
  if request.op == 'snapshot' then
    redis.call('DEL', KEYS[1], KEYS[3])
  end
  in_chunks('HDEL', KEYS[1], request.routes_gone)
  in_chunks('HDEL', KEYS[3], request.instances_gone)
  in_chunks('HSET', KEYS[1], request.routes_set)
  in_chunks('HSET', KEYS[3], request.instances_set)
  redis.call('HSET', KEYS[2], unpack(request.meta))
  redis.call('SADD', KEYS[6], request.service)
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', request.log_maxlen, '*', unpack(request.log))
end

redis.call('XADD', KEYS[7], 'MAXLEN', '~', request.changes_maxlen, '*', unpack(request.change))
return {'WRITTEN'}
